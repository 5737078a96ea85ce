"""Every knob and every service's configuration, and the only reader of the environment."""
