"""Sites that use the synchronous client."""
