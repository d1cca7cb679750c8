"""What pages are made of that hold all they show: charts, pictures, one look; templates that others build on."""
