"""What the Manager API is made of: its numbers, its records, and the one protocol that both sources speak; pure."""
