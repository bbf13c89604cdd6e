"""How the day-one model does on simulated conditions, one by one."""
