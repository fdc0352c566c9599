"""A producer that knows Redis and nothing of ours: publishes one message, prints how many heard it.

produce.py <redis url> <channel> <message>
"""

import sys

import redis

url, channel, message = sys.argv[1:]
print(redis.Redis.from_url(url).publish(channel, message))
