"""What `warmline doctor` looks at: the machine, the software, the services."""
