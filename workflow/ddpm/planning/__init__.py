"""What a run would cost, before anything runs. Nothing here needs torch but `measuring`."""
