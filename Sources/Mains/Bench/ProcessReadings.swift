import Foundation
import Glibc

/// Readings of /proc. Each parser takes the file's text, so that it can be tested with what real kernels write.
enum ProcessReadings {
    /// User and system CPU seconds of a process and all its threads, ended ones included.
    static func cpuSeconds(stat: String, ticksPerSecond: Double) -> Double? {
        // The second field, the name in brackets, may itself contain spaces and brackets.
        guard let close = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return nil }
        return (user + system) / ticksPerSecond
    }

    /// Private_Clean + Private_Dirty of an smaps_rollup, in bytes: what would be free if the process ended.
    static func privateBytes(smapsRollup: String) -> Int? {
        guard let clean = kilobytes("Private_Clean:", smapsRollup), let dirty = kilobytes("Private_Dirty:", smapsRollup)
        else { return nil }
        return (clean + dirty) * 1024
    }

    /// Memory that the kernel's slab allocator has, in bytes.
    static func slabBytes(meminfo: String) -> Int? { kilobytes("Slab:", meminfo).map { $0 * 1024 } }

    /// Memory charged to TCP socket buffers, in bytes.
    static func socketBytes(sockstat: String, pageBytes: Int) -> Int? {
        for line in sockstat.split(separator: "\n") where line.hasPrefix("TCP:") {
            let words = line.split(separator: " ")
            guard let at = words.firstIndex(of: "mem"), at + 1 < words.count else { return nil }
            return Int(words[at + 1]).map { $0 * pageBytes }
        }
        return nil
    }

    private static func kilobytes(_ name: String, _ text: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return line.dropFirst(name.count).split(separator: " ").first.flatMap { Int($0) }
        }
        return nil
    }
}

/// The server's processes, by their ids.
struct ServerProcesses {
    let pids: [Int32]

    /// CPU seconds of all of them; nil when none are known.
    func cpuSeconds() throws(BenchError) -> Double? {
        guard !pids.isEmpty else { return nil }
        var sum = 0.0
        for pid in pids { sum += try Self.cpuSeconds(of: "\(pid)") }
        return sum
    }

    /// Private bytes of all of them.
    func privateBytes() throws(BenchError) -> Int {
        var sum = 0
        for pid in pids {
            let path = "/proc/\(pid)/smaps_rollup"
            guard let bytes = ProcessReadings.privateBytes(smapsRollup: try Self.text(path)) else {
                throw BenchError("\(path) does not say how much private memory the process has")
            }
            sum += bytes
        }
        return sum
    }

    static func ownCPUSeconds() throws(BenchError) -> Double { try cpuSeconds(of: "self") }

    /// The whole machine's slab and TCP buffer memory; nil where the kernel does not say.
    static func kernelBytes() -> Int? {
        guard let meminfo = try? text("/proc/meminfo"), let sockstat = try? text("/proc/net/sockstat"),
            let slab = ProcessReadings.slabBytes(meminfo: meminfo),
            let sockets = ProcessReadings.socketBytes(sockstat: sockstat, pageBytes: Int(sysconf(Int32(_SC_PAGESIZE))))
        else { return nil }
        return slab + sockets
    }

    private static func cpuSeconds(of process: String) throws(BenchError) -> Double {
        let path = "/proc/\(process)/stat"
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard let seconds = ProcessReadings.cpuSeconds(stat: try text(path), ticksPerSecond: ticks) else {
            throw BenchError("\(path) does not say how much CPU the process has used")
        }
        return seconds
    }

    private static func text(_ path: String) throws(BenchError) -> String {
        // smaps_rollup opens for everybody and fails only when read.
        guard let text = try? String(contentsOfFile: path, encoding: .utf8), !text.isEmpty else {
            throw BenchError("cannot read \(path): is --pid the server's, and may you look at it?")
        }
        return text
    }
}
