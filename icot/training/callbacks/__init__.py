"""What happens around training: the schedule, and small reactions to its stages."""
