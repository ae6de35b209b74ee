"""A table of the medians of what peers.sh measured: lines of a system's name, a tab and the JSON of `martlet bench`."""
import json
import statistics
import sys


def digits(value):
    """A figure as precise as it repeats."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def figure(runs, read):
    values = [read(run) for run in runs]
    text = digits(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({digits(min(values))}-{digits(max(values))})"


def main():
    systems = {}
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            name, result = line.split("\t", 1)
            systems.setdefault(name, []).append(json.loads(result))
    columns = [
        ("messages/s", lambda run: run["messages_per_s"]),
        ("server CPU s per million", lambda run: run["server_cpu_s_per_million"]),
        ("received after, p50 ms", lambda run: run["latency_ms"]["p50"]),
        ("p99 ms", lambda run: run["latency_ms"]["p99"]),
        ("acknowledged after, p99 ms", lambda run: run["ack_latency_ms"]["p99"]),
        ("errors", lambda run: run["errors"]),
    ]
    names = [name for name, _ in columns] + ["messages/s, Martlet to it", "CPU, it to Martlet"]
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    own = systems.get("martlet")
    for system, runs in systems.items():
        cells = [figure(runs, read) for _, read in columns]
        for index, upside_down in ((0, False), (1, True)):
            if not own or system == "martlet":
                cells.append("")
                continue
            read = columns[index][1]
            ours, theirs = (statistics.median(map(read, each)) for each in (own, runs))
            cells.append(f"{theirs / ours if upside_down else ours / theirs:.2f}")
        print(f"| {system} | " + " | ".join(cells) + " |")
    for system, runs in systems.items():
        for run in runs:
            if run["errors"]:
                print(f"{system}: {run['error_counts']}")


main()
