"""Planning: choosing actions by searching in a world model, instead of learning a policy."""
