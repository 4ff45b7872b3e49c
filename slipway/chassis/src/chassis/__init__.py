"""The chassis: what every service shares, and nothing that belongs to one service's domain."""
