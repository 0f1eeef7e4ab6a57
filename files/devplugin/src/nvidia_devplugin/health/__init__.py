"""The health of GPUs: XIDs, checks of what the driver reports, recovery, and what a restart must not forget."""
