"""What a person looks at: reports on data, pictures of boxes, drawings of networks."""
