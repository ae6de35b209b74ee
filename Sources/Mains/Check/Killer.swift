import Foundation

/// kill -9 of listed processes, one at a time, spread evenly over the run. Only pids in the file are ever signalled.
struct Killer {
    private let services: [String]
    private let pidFile: String
    private let count: Int
    private let every: UInt64
    private let patience: UInt64
    private var next = 0
    private(set) var kills = 0
    /// Why a kill could not be done: a run that was to kill and did not has shown nothing.
    private(set) var failures: [String] = []

    init(services: [String], pidFile: String, count: Int, runMicros: UInt64, patience: UInt64) {
        self.services = services
        self.pidFile = pidFile
        self.count = services.isEmpty ? 0 : count
        self.every = runMicros / UInt64(max(1, count) + 1)
        self.patience = patience
    }

    /// Kills when it is time. `elapsed`: microseconds of the run.
    mutating func tick(elapsed: UInt64) {
        guard next < count else { return }
        let due = every * UInt64(next + 1)
        guard elapsed >= due else { return }
        let service = services[next % services.count]
        if let pid = pid(of: service, turn: next / services.count), kill(pid, SIGKILL) == 0 {
            kills += 1
            next += 1
        } else if elapsed >= due + patience {
            failures.append("\(service): no process of that name in \(pidFile) could be killed")
            next += 1
        }
    }

    /// What was still due when the run ended.
    mutating func end() {
        while next < count {
            failures.append("\(services[next % services.count]): the run ended before its kill")
            next += 1
        }
    }

    private func pid(of service: String, turn: Int) -> pid_t? {
        guard let data = FileManager.default.contents(atPath: pidFile),
            let listed = try? JSONDecoder().decode([String: [Int32]].self, from: data)[service], !listed.isEmpty
        else { return nil }
        let pid = listed[turn % listed.count]
        return pid > 1 ? pid : nil
    }
}
