"""What icot is measured against."""
