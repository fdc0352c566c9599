"""What the back ends of this folder share: they know nothing but `redis.publish`.

Until a line comes on standard input, a back end repeats its idle events, as agents do that wait for work. Each line
plays its story once.
"""

import json
import select
import sys

import redis


def play(idle, story):
    server = redis.Redis.from_url(sys.argv[1])

    def publish(events):
        for channel, event in events:
            server.publish(channel, json.dumps(event))

    while not select.select([sys.stdin], [], [], 0.05)[0]:
        publish(idle)
    for _line in sys.stdin:
        publish(story)
        print("played", flush=True)
