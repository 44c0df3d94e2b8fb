"""What every stage shares: its outcome, its engine, its memory."""
