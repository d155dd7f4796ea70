"""What is sent because of outcomes and alerts: notifications of people, and decisions about the inputs of a stream."""
