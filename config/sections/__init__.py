"""The settings' sections, by what they are about. `config.settings` puts them together: import from there."""
