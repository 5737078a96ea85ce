"""The domain of Warmline: jobs, objects, audio, emotion, calls. Knows neither workers nor the API."""
