"""What a workflow is: node types, references and templates, and the graph compiled into a plan."""
