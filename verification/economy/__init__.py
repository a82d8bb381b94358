"""How many replicates does a threshold cost, and how many does it cost others?"""
