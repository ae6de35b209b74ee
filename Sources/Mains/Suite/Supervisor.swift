import Foundation
import Runtime
import Synchronization

/// What the services of a suite are started from.
public enum ServicePrograms: Equatable, Sendable {
    /// One program that has them all: this one.
    case serving(String)
    /// A folder with martlet-login, martlet-online and so on.
    case folder(String)

    /// The program and its arguments up to the service's name.
    func command(for service: Topology.Service) -> (executable: String, arguments: [String]) {
        switch self {
        case .serving(let path): (path, ["serve", service.name])
        case .folder(let path): ("\(path)/martlet-\(service.role)", [service.name])
        }
    }

    /// Every program is there and can be run.
    ///
    /// - Throws: `StartError` naming the first that is not.
    func check(_ services: [Topology.Service]) throws {
        for service in services {
            let path = command(for: service).executable
            guard FileManager.default.isExecutableFile(atPath: path) else {
                throw StartError("there is no program \(path)", cure: "Build the executables with `make release`")
            }
        }
    }
}

/// Runs the services of a topology as child processes: starts them, restarts the dead with backoff, prefixes every line
/// they print with their name, and keeps a file of their pids up to date.
///
/// Isolation: everything mutable behind one mutex; exit handlers and pipe readers come on their own queues.
public final class Supervisor: Sendable {
    private struct State {
        var children: [String: Child] = [:]
        var stopping = false
    }

    private struct Child {
        var process: Process
        var startedAt: ContinuousClock.Instant
        var quickDeaths = 0
    }

    private let programs: ServicePrograms
    private let topologyPath: String
    private let pidsPath: String
    private let state = Mutex(State())
    /// Held from looking who runs to the end of writing it down: else an older look could be written over a newer one.
    private let pidsFile = Mutex(())
    /// A child that lived this long starts again at once.
    private static let steadyFor: Duration = .seconds(5)
    /// Longest wait before a restart, in milliseconds.
    private static let longestWaitMS = 2000

    public init(programs: ServicePrograms, topologyPath: String, pidsPath: String) {
        self.programs = programs
        self.topologyPath = topologyPath
        self.pidsPath = pidsPath
    }

    /// Starts every service of the topology in its order.
    public func start(_ topology: Topology) throws {
        for service in topology.services { try launch(service, quickDeaths: 0) }
    }

    /// Ends all children, politely first.
    public func stop() {
        let running = state.withLock { state -> [Process] in
            state.stopping = true
            return state.children.values.map(\.process).filter(\.isRunning)
        }
        for process in running { process.terminate() }
        let deadline = ContinuousClock.now + .seconds(10)
        while running.contains(where: \.isRunning), ContinuousClock.now < deadline { usleep(20_000) }
        for process in running where process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    private func launch(_ service: Topology.Service, quickDeaths: Int) throws {
        let process = Process()
        let (executable, arguments) = programs.command(for: service)
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments + ["--topology", topologyPath, "--supervised"]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        // The child ends when this pipe does: no service outlives its supervisor, however that dies.
        process.standardInput = Pipe()
        process.terminationHandler = { [self] ended in childEnded(service, ended) }
        // Before it runs: one that ends at once shall be found by its end.
        state.withLock { state in
            state.children[service.name] = Child(process: process, startedAt: .now, quickDeaths: quickDeaths)
        }
        do {
            try process.run()
        } catch {
            throw StartError("cannot start \(service.name) from \(executable)", cure: "Build it again: swift build")
        }
        relay(pipe.fileHandleForReading, name: service.name)
        writePids()
    }

    private func childEnded(_ service: Topology.Service, _ ended: Process) {
        let wait = state.withLock { state -> Int? in
            guard !state.stopping, let child = state.children[service.name] else { return nil }
            let steady = ContinuousClock.now - child.startedAt > Self.steadyFor
            state.children[service.name]?.quickDeaths = steady ? 0 : child.quickDeaths + 1
            return steady ? 0 : min(Self.longestWaitMS, 50 << min(child.quickDeaths, 6))
        }
        guard let wait else { return }
        let deaths = state.withLock { $0.children[service.name]?.quickDeaths ?? 0 }
        say(service.name, "ended with status \(ended.terminationStatus); starting it again in \(wait) ms")
        restart(service, afterMS: wait, quickDeaths: deaths)
    }

    /// Starts a service again, and goes on trying when that fails: too many processes or open files are soon fewer.
    private func restart(_ service: Topology.Service, afterMS wait: Int, quickDeaths: Int) {
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(wait)) { [self] in
            if state.withLock({ $0.stopping }) { return }
            do { try launch(service, quickDeaths: quickDeaths) } catch {
                let next = min(Self.longestWaitMS, max(50, wait) * 2)
                say(service.name, "\(error) Trying again in \(next) ms.")
                writePids()
                restart(service, afterMS: next, quickDeaths: quickDeaths + 1)
            }
        }
    }

    /// Passes a child's lines on from a thread of its own, until the child has closed its end.
    private func relay(_ handle: FileHandle, name: String) {
        let thread = Thread { [self] in
            var rest = Data()
            var bytes = [UInt8](repeating: 0, count: 64 << 10)
            while true {
                let count = read(handle.fileDescriptor, &bytes, bytes.count)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { break }
                rest.append(contentsOf: bytes[..<count])
                var lines = rest.split(separator: 0x0a, omittingEmptySubsequences: false)
                rest = Data(lines.removeLast())
                for line in lines { say(name, String(decoding: line, as: UTF8.self)) }
            }
            try? handle.close()
        }
        thread.name = "relay-\(name)"
        thread.start()
    }

    private func say(_ name: String, _ line: String) {
        let padded = name.padding(toLength: max(12, name.count), withPad: " ", startingAt: 0)
        FileHandle.standardError.write(Data("\(padded) | \(line)\n".utf8))
    }

    /// {"pids": {service role: [pid, ...]}}: for `martlet check --kill`, which may only end what is listed here.
    private func writePids() {
        pidsFile.withLock { _ in
            var pids: [String: [Int32]] = [:]
            let children = state.withLock { $0.children.sorted { $0.key < $1.key } }
            for (name, child) in children where child.process.isRunning {
                let role = String(name[..<(name.lastIndex(of: "-") ?? name.endIndex)])
                pids[role, default: []].append(child.process.processIdentifier)
            }
            guard let data = try? JSONEncoder().encode(pids) else { return }
            try? data.write(to: URL(fileURLWithPath: pidsPath), options: .atomic)
        }
    }
}
