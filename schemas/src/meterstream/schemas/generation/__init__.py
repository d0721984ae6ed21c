"""What is generated from the contract and committed: JSON Schema, AsyncAPI, the reference page."""
