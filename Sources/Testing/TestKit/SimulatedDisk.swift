import Machinery
import Ports
import Synchronization

/// A disk that remembers what was not made durable, and can lose it. Written sectors of 512 bytes reach the platter one
/// by one, in any order, the last one torn; names reach it only when their folder is synced.
///
/// Isolation: any thread; a mutex around everything.
public final class SimulatedDisk: FileLayer {
    /// What goes wrong.
    public struct Faults: Sendable, Equatable {
        /// `sync` and `syncFolder` answer at once and do nothing: the fault that the power-cut test must detect.
        public var ignoresSync = false
        /// The next so many syncs of files fail.
        public var failingSyncs = 0
        /// Bytes that all files together may have; writes beyond are cut off and fail.
        public var capacity = Int.max
        public var isReadOnly = false
        public init() {}
    }

    static let sectorBytes = 512

    /// A file's bytes, as programs see them and as the platter has them.
    private struct Node {
        var live: [UInt8] = []
        var durable: [UInt8] = []
        /// First byte that differs between the two.
        var dirtyFrom = 0
    }

    private enum NameChange {
        case add(String, Int)
        case remove(String)
    }

    private struct State {
        var nodes: [Int: Node] = [:]
        var names: [String: Int] = [:]
        var durableNames: [String: Int] = [:]
        /// Changes of names since their folder was synced, oldest first.
        var changes: [NameChange] = []
        var locks: Set<String> = []
        var nextNode = 1
        var faults = Faults()
        /// Raised by every power cut: files opened before it are dead.
        var life = 0
        var syncs = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// Sets what goes wrong from now on.
    public func setFaults(_ change: (inout Faults) -> Void) { state.withLock { change(&$0.faults) } }

    /// Syncs of files that were asked for.
    public var syncs: Int { state.withLock { $0.syncs } }

    /// The power goes: of what was not synced, an arbitrary part survives. Everything open is dead afterwards.
    public func cutPower(using random: inout SeededRandom) {
        state.withLock { state in
            var survivors = state.durableNames
            // Names reach the journal in order; some of the latest are lost.
            let kept = Int(random.next() % UInt64(state.changes.count + 1))
            for change in state.changes.prefix(kept) { Self.apply(change, to: &survivors) }
            for (number, node) in state.nodes.sorted(by: { $0.key < $1.key }) {
                let bytes = Self.afterCut(node, &random)
                state.nodes[number] = Node(live: bytes, durable: bytes, dirtyFrom: bytes.count)
            }
            let used = Set(survivors.values)
            state.nodes = state.nodes.filter { used.contains($0.key) }
            state.names = survivors
            state.durableNames = survivors
            state.changes = []
            state.locks = []
            state.life += 1
        }
    }

    /// kill -9: nothing is lost, but what was open is dead.
    public func killProcess() {
        state.withLock { state in
            state.locks = []
            state.life += 1
        }
    }

    private static func apply(_ change: NameChange, to names: inout [String: Int]) {
        switch change {
        case .add(let name, let node): names[name] = node
        case .remove(let name): names[name] = nil
        }
    }

    /// A size between the durable and the live one, and each sector in between old or new.
    private static func afterCut(_ node: Node, _ random: inout SeededRandom) -> [UInt8] {
        let (low, high) = (min(node.durable.count, node.live.count), max(node.durable.count, node.live.count))
        if node.dirtyFrom >= high { return node.live }
        let size = low + Int(random.next() % UInt64(high - low + 1))
        var bytes = Array(node.durable.prefix(size))
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
        let first = node.dirtyFrom / sectorBytes * sectorBytes
        let odds = Double(random.next() % 5) / 4
        for sector in stride(from: first, to: size, by: sectorBytes) where random.chance(odds) {
            var end = min(sector + sectorBytes, size, node.live.count)
            // The sector under the head when the power went.
            if random.chance(0.1), end > sector { end = sector + Int(random.next() % UInt64(end - sector)) }
            if end > sector { bytes.replaceSubrange(sector..<end, with: node.live[sector..<end]) }
        }
        return bytes
    }

    /// Changes bytes behind everybody's back: what a failing platter does.
    public func damage(_ path: String, at position: Int) {
        state.withLock { state in
            guard let number = state.names[path], var node = state.nodes[number], position < node.live.count else {
                return
            }
            node.live[position] ^= 0x5a
            if position < node.durable.count { node.durable[position] ^= 0x5a }
            state.nodes[number] = node
        }
    }

    /// A file's bytes; nil when there is none.
    public func contents(_ path: String) -> [UInt8]? {
        state.withLock { state in state.names[path].flatMap { state.nodes[$0]?.live } }
    }

    // MARK: FileLayer

    public func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile {
        let outcome: Result<any OpenFile, FileError> = state.withLock { state in
            if let number = state.names[path] { return .success(SimulatedFile(self, path, number, state.life)) }
            guard create else { return .failure(FileError("open", path, .notFound)) }
            if state.faults.isReadOnly { return .failure(FileError("open", path, .readOnly)) }
            let number = state.nextNode
            state.nextNode += 1
            state.nodes[number] = Node()
            Self.change(&state, .add(path, number))
            return .success(SimulatedFile(self, path, number, state.life))
        }
        return try outcome.get()
    }

    private static func change(_ state: inout State, _ change: NameChange) {
        state.changes.append(change)
        apply(change, to: &state.names)
    }

    public func list(_ folder: String) throws(FileError) -> [String] {
        state.withLock { state in
            state.names.keys.filter { $0.hasPrefix(folder + "/") }.map { String($0.dropFirst(folder.count + 1)) }
                .sorted()
        }
    }

    public func makeFolder(_ path: String) throws(FileError) {
        if state.withLock({ $0.faults.isReadOnly }) { throw FileError("create", path, .readOnly) }
    }

    public func rename(_ from: String, to: String) throws(FileError) {
        let found = state.withLock { state in
            guard let number = state.names[from] else { return false }
            Self.change(&state, .remove(from))
            Self.change(&state, .add(to, number))
            return true
        }
        if !found { throw FileError("rename", from, .notFound) }
    }

    public func remove(_ path: String) throws(FileError) {
        let found = state.withLock { state in
            guard state.names[path] != nil else { return false }
            Self.change(&state, .remove(path))
            return true
        }
        if !found { throw FileError("remove", path, .notFound) }
    }

    public func syncFolder(_ path: String) throws(FileError) {
        state.withLock { state in
            guard !state.faults.ignoresSync else { return }
            // A folder's names become durable; with them everything earlier in the same journal.
            for change in state.changes { Self.apply(change, to: &state.durableNames) }
            state.changes = []
        }
    }

    public func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable {
        guard state.withLock({ $0.locks.insert(path).inserted }) else { throw FileError("lock", path, .locked) }
        return SimulatedLock(self, path, state.withLock { $0.life })
    }

    fileprivate func unlock(_ path: String, _ life: Int) {
        state.withLock { state in
            if state.life == life { state.locks.remove(path) }
        }
    }

    // MARK: files

    private func withNode<T>(
        _ number: Int, _ life: Int, _ operation: String, _ path: String,
        _ work: (inout State, inout Node) -> Result<T, FileError>
    ) throws(FileError) -> T {
        let outcome: Result<T, FileError> = state.withLock { state in
            guard state.life == life, var node = state.nodes[number] else {
                return .failure(FileError(operation, path, .other(9)))
            }
            let result = work(&state, &node)
            state.nodes[number] = node
            return result
        }
        return try outcome.get()
    }

    fileprivate func size(_ file: SimulatedFile) throws(FileError) -> Int {
        try withNode(file.number, file.life, "look at", file.path) { _, node in .success(node.live.count) }
    }

    fileprivate func append(_ file: SimulatedFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) {
        try withNode(file.number, file.life, "write", file.path) { state, node -> Result<Void, FileError> in
            let used = state.nodes.values.reduce(0) { $0 + $1.live.count }
            let room = max(0, state.faults.capacity - used)
            node.dirtyFrom = min(node.dirtyFrom, node.live.count)
            node.live.append(contentsOf: bytes.prefix(room))
            return bytes.count <= room ? .success(()) : .failure(FileError("write", file.path, .full))
        }
    }

    fileprivate func read(_ file: SimulatedFile, _ position: Int, _ count: Int) throws(FileError) -> [UInt8] {
        try withNode(file.number, file.life, "read", file.path) { _, node in
            let start = min(max(0, position), node.live.count)
            return .success(Array(node.live[start..<min(node.live.count, start + max(0, count))]))
        }
    }

    fileprivate func truncate(_ file: SimulatedFile, _ size: Int) throws(FileError) {
        try withNode(file.number, file.life, "shorten", file.path) { _, node -> Result<Void, FileError> in
            node.dirtyFrom = min(node.dirtyFrom, size)
            node.live = Array(node.live.prefix(size))
            node.live += [UInt8](repeating: 0, count: size - node.live.count)
            return .success(())
        }
    }

    fileprivate func sync(_ file: SimulatedFile) throws(FileError) {
        try withNode(file.number, file.life, "sync", file.path) { state, node -> Result<Void, FileError> in
            state.syncs += 1
            if state.faults.failingSyncs > 0 {
                state.faults.failingSyncs -= 1
                return .failure(FileError("sync", file.path, .other(5)))
            }
            if !state.faults.ignoresSync {
                node.durable = node.live
                node.dirtyFrom = node.live.count
            }
            return .success(())
        }
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
    func append(_ bytes: UnsafeRawBufferPointer) throws(FileError) { try disk.append(self, bytes) }
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

    deinit { disk.unlock(path, life) }
}
