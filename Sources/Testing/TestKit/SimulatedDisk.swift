import Foundation
import Machinery
import Ports
import Synchronization

/// A disk that remembers what was not made durable, and can lose it. Written sectors of 512 bytes reach the platter one
/// by one, in any order, the last one torn; names reach it only when their folder is synced.
///
/// Isolation: any thread; a mutex around everything.
public final class SimulatedDisk: Sendable {
    /// What goes wrong.
    public struct Faults: Sendable, Equatable {
        /// `sync` and `syncFolder` answer at once and do nothing: the fault that the power-cut test must detect.
        public var ignoresSync = false
        /// `sync` does nothing for some files after some syncs.
        public var ignoredSyncs: IgnoredSyncs?
        /// The next so many syncs of files fail.
        public var failingSyncs = 0
        /// Bytes that all files together may have; writes beyond are cut off and fail.
        public var capacity = Int.max
        public var isReadOnly = false
        /// After so many more writes, syncs and changes of names the power goes: nothing succeeds until `cutPower` has
        /// decided what survives. So a cut can fall inside a transaction; nil for never.
        public var stepsToPowerLoss: Int?
        public init() {}
    }

    /// Syncs that answer and do nothing.
    public struct IgnoredSyncs: Sendable, Equatable {
        /// Files whose path contains this.
        public var path: String
        /// So many syncs of each of them still work, so that what is lost is not the file's beginning.
        public var after: Int

        public init(of path: String, after: Int = 0) {
            self.path = path
            self.after = after
        }
    }

    static let sectorBytes = 512

    private enum NameChange {
        case add(String, Int)
        case remove(String)
    }

    private struct State {
        var nodes: [Int: SimulatedNode] = [:]
        var names: [String: Int] = [:]
        var durableNames: [String: Int] = [:]
        /// Changes of names since their folder was synced, oldest first.
        var changes: [NameChange] = []
        var locks: Set<String> = []
        var nextNode = 1
        var faults = Faults()
        /// Raised by every power cut and kill: mounts and files of earlier lives are dead.
        var life = 0
        var syncs = 0

        func isIgnored(_ path: String, _ node: Int) -> Bool {
            if let some = faults.ignoredSyncs {
                return path.contains(some.path) && nodes[node]?.syncs ?? 0 >= some.after
            }
            return faults.ignoresSync
        }

        var usedBytes: Int { nodes.values.reduce(0) { $0 + $1.live.count } }

        var hasLostPower: Bool { faults.stepsToPowerLoss == 0 }

        /// One more operation that changes something; false when the power is gone.
        mutating func step() -> Bool {
            guard let left = faults.stepsToPowerLoss else { return true }
            guard left > 0 else { return false }
            faults.stepsToPowerLoss = left - 1
            return left > 1
        }
    }

    private let state = Mutex(State())

    public init() {}

    /// Sets what goes wrong from now on.
    public func setFaults(_ change: (inout Faults) -> Void) { state.withLock { change(&$0.faults) } }

    /// Syncs of files that were asked for.
    public var syncs: Int { state.withLock { $0.syncs } }

    /// Bytes of all files together, as programs see them.
    public var usedBytes: Int { state.withLock { $0.usedBytes } }

    /// Whether `stepsToPowerLoss` has come true.
    public var hasLostPower: Bool { state.withLock { $0.hasLostPower } }

    /// The disk as one process sees it until the next `cutPower` or `killProcess`: whatever that process still does
    /// afterwards fails.
    public func mount() -> SimulatedMount { SimulatedMount(disk: self, life: state.withLock { $0.life }) }

    /// The power goes: of what was not synced, an arbitrary part survives. Everything open is dead afterwards.
    public func cutPower(using random: inout SeededRandom) {
        state.withLock { state in
            var survivors = state.durableNames
            // Names reach the journal in order; some of the latest are lost.
            let kept = Int(random.next() % UInt64(state.changes.count + 1))
            for change in state.changes.prefix(kept) { Self.apply(change, to: &survivors) }
            for number in state.nodes.keys.sorted() { state.nodes[number]?.cutPower(using: &random) }
            let used = Set(survivors.values)
            state.nodes = state.nodes.filter { used.contains($0.key) }
            state.names = survivors
            state.durableNames = survivors
            state.changes = []
            Self.endLife(&state)
        }
    }

    /// kill -9: nothing is lost, but what was open is dead.
    public func killProcess() { state.withLock { Self.endLife(&$0) } }

    private static func endLife(_ state: inout State) {
        state.locks = []
        state.faults.stepsToPowerLoss = nil
        state.life += 1
    }

    private static func apply(_ change: NameChange, to names: inout [String: Int]) {
        switch change {
        case .add(let name, let node): names[name] = node
        case .remove(let name): names[name] = nil
        }
    }

    private static func change(_ state: inout State, _ change: NameChange) {
        state.changes.append(change)
        apply(change, to: &state.names)
    }

    /// Changes bytes behind everybody's back: what a failing platter does.
    public func damage(_ path: String, at position: Int) {
        state.withLock { state in
            guard let number = state.names[path] else { return }
            state.nodes[number]?.damage(at: position)
        }
    }

    /// A file's bytes; nil when there is none.
    public func contents(_ path: String) -> [UInt8]? {
        state.withLock { state in state.names[path].flatMap { state.nodes[$0]?.live } }
    }

    // MARK: what mounts and files ask for

    /// One operation of a process of the given life. `changes` tells whether it is a step towards the loss of power.
    private func attempt<T: Sendable>(
        _ life: Int, _ operation: String, _ path: String, changes: Bool,
        _ work: (inout State) -> Result<T, FileError>
    ) throws(FileError) -> T {
        let outcome: Result<T, FileError> = state.withLock { state in
            guard state.life == life else { return .failure(FileError(operation, path, .other(9))) }
            if changes ? !state.step() : state.hasLostPower { return .failure(FileError(operation, path, .other(5))) }
            return work(&state)
        }
        return try outcome.get()
    }

    fileprivate func node(_ path: String, create: Bool, life: Int) throws(FileError) -> Int {
        let known = try attempt(life, "open", path, changes: false) { state -> Result<Int?, FileError> in
            if let number = state.names[path] { return .success(number) }
            if !create { return .failure(FileError("open", path, .notFound)) }
            return state.faults.isReadOnly ? .failure(FileError("open", path, .readOnly)) : .success(nil)
        }
        if let known { return known }
        return try attempt(life, "open", path, changes: true) { state -> Result<Int, FileError> in
            let number = state.nextNode
            state.nextNode += 1
            state.nodes[number] = SimulatedNode()
            Self.change(&state, .add(path, number))
            return .success(number)
        }
    }

    fileprivate func list(_ folder: String, life: Int) throws(FileError) -> [String] {
        try attempt(life, "list", folder, changes: false) { state -> Result<[String], FileError> in
            let names = state.names.keys.filter { $0.hasPrefix(folder + "/") }
            return .success(names.map { String($0.dropFirst(folder.count + 1)) }.sorted())
        }
    }

    fileprivate func makeFolder(_ path: String, life: Int) throws(FileError) {
        try attempt(life, "create", path, changes: false) { state in
            state.faults.isReadOnly ? .failure(FileError("create", path, .readOnly)) : .success(())
        }
    }

    fileprivate func rename(_ from: String, to: String, life: Int) throws(FileError) {
        try attempt(life, "rename", from, changes: true) { state -> Result<Void, FileError> in
            guard let number = state.names[from] else { return .failure(FileError("rename", from, .notFound)) }
            Self.change(&state, .remove(from))
            Self.change(&state, .add(to, number))
            return .success(())
        }
    }

    fileprivate func remove(_ path: String, life: Int) throws(FileError) {
        try attempt(life, "remove", path, changes: true) { state -> Result<Void, FileError> in
            guard state.names[path] != nil else { return .failure(FileError("remove", path, .notFound)) }
            Self.change(&state, .remove(path))
            return .success(())
        }
    }

    fileprivate func syncFolder(_ path: String, life: Int) throws(FileError) {
        try attempt(life, "sync", path, changes: true) { state -> Result<Void, FileError> in
            guard !state.faults.ignoresSync else { return .success(()) }
            // A folder's names become durable; with them everything earlier in the same journal.
            for change in state.changes { Self.apply(change, to: &state.durableNames) }
            state.changes = []
            return .success(())
        }
    }

    fileprivate func lock(_ path: String, life: Int) throws(FileError) {
        try attempt(life, "lock", path, changes: false) { state in
            state.locks.insert(path).inserted ? .success(()) : .failure(FileError("lock", path, .locked))
        }
    }

    fileprivate func unlock(_ path: String, life: Int) {
        state.withLock { state in
            if state.life == life { state.locks.remove(path) }
        }
    }

    fileprivate func size(_ file: SimulatedFile) throws(FileError) -> Int {
        try attempt(file.life, "look at", file.path, changes: false) { state in
            .success(state.nodes[file.number]?.live.count ?? 0)
        }
    }

    /// At the given position, or at the end.
    fileprivate func write(_ file: SimulatedFile, _ bytes: UnsafeRawBufferPointer, at position: Int?) throws(FileError)
    {
        try attempt(file.life, "write", file.path, changes: true) { state -> Result<Void, FileError> in
            if state.faults.isReadOnly { return .failure(FileError("write", file.path, .readOnly)) }
            let size = state.nodes[file.number]?.live.count ?? 0
            let start = position ?? size
            var room = bytes.count
            if state.faults.capacity != .max {
                // What replaces bytes of the file takes no room.
                let free = max(0, state.faults.capacity - state.usedBytes)
                room = min(room, max(0, size - start + free))
            }
            state.nodes[file.number]?.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(room)), at: start)
            return bytes.count <= room ? .success(()) : .failure(FileError("write", file.path, .full))
        }
    }

    fileprivate func read(_ file: SimulatedFile, _ position: Int, _ count: Int) throws(FileError) -> [UInt8] {
        try attempt(file.life, "read", file.path, changes: false) { state -> Result<[UInt8], FileError> in
            guard let node = state.nodes[file.number] else { return .success([]) }
            let start = min(max(0, position), node.live.count)
            return .success(Array(node.live[start..<min(node.live.count, start + max(0, count))]))
        }
    }

    fileprivate func truncate(_ file: SimulatedFile, _ size: Int) throws(FileError) {
        try attempt(file.life, "shorten", file.path, changes: true) { state -> Result<Void, FileError> in
            .success(state.nodes[file.number]?.truncate(to: size) ?? ())
        }
    }

    fileprivate func sync(_ file: SimulatedFile) throws(FileError) {
        try attempt(file.life, "sync", file.path, changes: true) { state -> Result<Void, FileError> in
            state.syncs += 1
            if state.faults.failingSyncs > 0 {
                state.faults.failingSyncs -= 1
                return .failure(FileError("sync", file.path, .other(5)))
            }
            if !state.isIgnored(file.path, file.number) { state.nodes[file.number]?.sync() }
            return .success(())
        }
    }
}

/// The disk as the process that is alive now sees it.
extension SimulatedDisk: FileLayer {
    public func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile {
        try mount().open(path, create: create)
    }
    public func list(_ folder: String) throws(FileError) -> [String] { try mount().list(folder) }
    public func makeFolder(_ path: String) throws(FileError) { try mount().makeFolder(path) }
    public func rename(_ from: String, to: String) throws(FileError) { try mount().rename(from, to: to) }
    public func remove(_ path: String) throws(FileError) { try mount().remove(path) }
    public func syncFolder(_ path: String) throws(FileError) { try mount().syncFolder(path) }
    public func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable { try mount().lock(path) }
}

/// The disk as one process sees it; dead after a power cut or a kill.
public struct SimulatedMount: FileLayer {
    fileprivate let disk: SimulatedDisk
    fileprivate let life: Int

    public func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile {
        SimulatedFile(disk, path, try disk.node(path, create: create, life: life), life)
    }
    public func list(_ folder: String) throws(FileError) -> [String] { try disk.list(folder, life: life) }
    public func makeFolder(_ path: String) throws(FileError) { try disk.makeFolder(path, life: life) }
    public func rename(_ from: String, to: String) throws(FileError) { try disk.rename(from, to: to, life: life) }
    public func remove(_ path: String) throws(FileError) { try disk.remove(path, life: life) }
    public func syncFolder(_ path: String) throws(FileError) { try disk.syncFolder(path, life: life) }
    public func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable {
        try disk.lock(path, life: life)
        return SimulatedLock(disk, path, life)
    }
}

private final class SimulatedFile: OpenFile {
    let disk: SimulatedDisk
    let path: String
    let number: Int
    let life: Int

    init(_ disk: SimulatedDisk, _ path: String, _ number: Int, _ life: Int) {
        self.disk = disk
        self.path = path
        self.number = number
        self.life = life
    }

    func size() throws(FileError) -> Int { try disk.size(self) }
    func append(_ bytes: UnsafeRawBufferPointer) throws(FileError) { try disk.write(self, bytes, at: nil) }
    func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(FileError) {
        try disk.write(self, bytes, at: position)
    }
    func read(at position: Int, count: Int) throws(FileError) -> [UInt8] { try disk.read(self, position, count) }
    func truncate(to size: Int) throws(FileError) { try disk.truncate(self, size) }
    func sync() throws(FileError) { try disk.sync(self) }
}

private final class SimulatedLock: Sendable {
    private let disk: SimulatedDisk
    private let path: String
    private let life: Int

    init(_ disk: SimulatedDisk, _ path: String, _ life: Int) {
        self.disk = disk
        self.path = path
        self.life = life
    }

    deinit { disk.unlock(path, life: life) }
}
