"""Health check of a container: exit code 0 if the service on this port says it is ready."""

import sys
import urllib.request


def main(port: int) -> int:
    """Ask /readyz once."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=3) as response:
            return 0 if response.status == 200 else 1
    except OSError as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
