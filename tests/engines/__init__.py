"""Container engines and Kubernetes for the tests, built from their Go modules; see README.md."""
