"""Amazon Bedrock: Claude by AWS, whose calls are signed, name the model in the path and stream in binary frames."""
