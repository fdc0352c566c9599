"""A producer that only knows Redis: publishes one message and prints the number of receivers.

produce.py <redis url> <channel> <message>
"""

import sys

import redis

url, channel, message = sys.argv[1:]
print(redis.Redis.from_url(url).publish(channel, message))
