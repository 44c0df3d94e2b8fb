"""What a comparison can claim: intervals, gates, and from when on pruning pays."""
