"""Categories: what a call centre calls its calls, said by rules over reports. Nothing here scores anything."""
