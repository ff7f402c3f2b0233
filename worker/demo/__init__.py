"""What the demo brings along: services of its own, a real community's events, and the show."""
