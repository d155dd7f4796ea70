"""What was sent to the outside, and what is to be sent: alerts, and decisions about inputs."""
