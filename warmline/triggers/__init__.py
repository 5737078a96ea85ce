"""What happens when an object is uploaded: rules, and the road from an event to a job."""
