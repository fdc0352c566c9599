"""Compares a report of the Autobahn test suite with what is expected: every case passes, but for those named here."""

import json
import sys

# The gateway's messages are JSON: there is no binary message (RFC 6455 section 7.4.1, 1003). One that is text counts as
# text, and is sent back as text.
BINARY = ("1.2.", "9.2.", "9.4.", "9.6.", "9.8.", "12.2.", "12.3.", "12.5.")

PASSED = {"OK", "INFORMATIONAL"}


def main(path):
    with open(path) as report:
        cases = json.load(report)["crewcast"]
    wrong, deviating = [], 0
    for number, result in cases.items():
        behaviours = {result["behavior"], result["behaviorClose"]}
        if number.startswith(BINARY):
            deviating += 1
            # What is not UTF-8 closes with 1003; text comes back as text, which the suite calls a failure.
            is_expected = result["behavior"] == "FAILED" and result["remoteCloseCode"] in (1003, 1000, None)
        else:
            is_expected = behaviours <= PASSED
        if not is_expected:
            wrong.append(f"{number}: {result['behavior']}, close {result['behaviorClose']} {result['remoteCloseCode']}")
    print(f"{len(cases)} cases: {len(cases) - deviating - len(wrong)} passed, {deviating} of binary messages, {len(wrong)} wrong")
    print("\n".join(wrong))
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
