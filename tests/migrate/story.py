"""What the back ends of this folder share: they know nothing but `redis.publish`.

Until a line comes on standard input, a back end repeats its idle events, as agents do that wait for work. Each line
plays its story once.
"""

import json
import select
import sys

import redis

# Idle events that come before every story: a dashboard's last 20 events are full then.
ROUNDS = 10


def play(idle, story):
    server = redis.Redis.from_url(sys.argv[1])

    def publish(events):
        for channel, event in events:
            server.publish(channel, json.dumps(event))

    rounds = 0
    while rounds < ROUNDS or not select.select([sys.stdin], [], [], 0.05)[0]:
        publish(idle)
        rounds += 1
    for _line in sys.stdin:
        publish(story)
        print("played", flush=True)
