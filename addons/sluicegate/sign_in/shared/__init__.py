"""Sign-ins of other processes: following what they issue and end, and asking for what has not been heard of yet."""
