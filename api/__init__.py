"""What ``import mldr_deploy`` offers to Python: the commands as functions, and a student to ask."""
