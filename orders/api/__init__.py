"""The door of people's programs, below /api/: the console's services and permissions, over JSON."""
