import ArgumentParser

/// `martlet bench`: speed and memory of a running server, seen from its clients.
public struct BenchCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure a running server: messages a second, latency, CPU, memory.",
        discussion: """
            The load comes from one thread that speaks the client protocol over real sockets. Start the server first
            (`martlet up`, a release build), then run one of the benches on the same machine. With --pid the server's
            CPU and memory are read from /proc. Docs/benchmarks.md explains every figure.
            """,
        subcommands: [
            ChatBench.self, SteadyBench.self, StorageBench.self, PagesBench.self, IdleBench.self, NeighbourBench.self,
            HostileBench.self,
        ])

    public init() {}
}
