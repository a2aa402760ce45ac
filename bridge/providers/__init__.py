"""One folder a voice provider: REST out and webhooks in side by side, behind `protocol`.

`catalogue` is the only place that lists providers; `http` is the only home of the HTTP client.
"""
