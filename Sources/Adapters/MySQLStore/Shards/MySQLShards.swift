import Foundation
import Logging
import Ports
import RPC
import Synchronization
import Wire

/// The shards of a recent store and the threads that talk to them. Any number of processes may have one each.
///
/// Isolation: any thread.
public final class MySQLShards: Sendable {
    public let config: MySQLConfig
    private let writers: [[WorkerPool<MySQLRecentStore>]]
    private let readers: [WorkerPool<MySQLRecentStore>]
    private let maps: WorkerPool<MapWorker>?
    private let known: ShardMap?

    /// Makes or checks the tables of all shards, and the map. A shard that cannot be reached is done later, when it
    /// can.
    ///
    /// - Parameters:
    ///   - config: the shards, in the order in which they are numbered.
    ///   - relational: where the map of the buckets is; nil: there is one shard, and it has all of them.
    ///   - buckets: partitions of the log.
    /// - Throws: one sentence that says what to do.
    public init(
        _ config: MySQLConfig, map relational: MySQLConfig?, buckets: Int, logger: Logger
    ) throws(StoreOpenError) {
        guard config.addresses.count == 1 || relational != nil else {
            throw StoreOpenError(.mismatch, "several shards need a relational database, which says what is where")
        }
        self.config = config
        for address in config.addresses {
            do throws(StoreOpenError) { try MySQLRecentStore(address, config).open() } catch {
                guard error.isAway else { throw error }
                logger.warning("a shard cannot be reached yet", metadata: ["why": "\(error.message)"])
            }
        }
        var known: ShardMap? = relational == nil ? .single : nil
        if let relational, let address = relational.addresses.first {
            do throws(MySQLError) { known = try MapWorker(relational, config, buckets).load() } catch {
                guard error.kind == .unreachable || error.kind == .lost else { throw error.opening(address) }
                logger.warning("the map of the shards cannot be read yet", metadata: ["why": "\(error.message)"])
            }
        }
        self.known = known
        writers = config.addresses.enumerated().map { number, address in
            (0..<max(1, config.writers)).map { lane in
                WorkerPool(name: "recent-\(number)-w\(lane)", threads: 1, limit: config.waitingJobs) {
                    MySQLRecentStore(address, config)
                }
            }
        }
        readers = config.addresses.enumerated().map { number, address in
            WorkerPool(name: "recent-\(number)-r", threads: max(1, config.readers), limit: config.waitingJobs) {
                MySQLRecentStore(address, config)
            }
        }
        maps = relational.map { relational in
            WorkerPool(name: "shard-map", threads: 1, limit: 8) { MapWorker(relational, config, buckets) }
        }
    }

    /// The machine that stands in front of them.
    public func machine() -> MySQLRecentMachine {
        MySQLRecentMachine(
            config: MySQLRecentConfig(
                shards: config.addresses.count, writers: config.writers, followsMap: maps != nil),
            map: known)
    }

    /// Does a job on a thread of its shard and answers, on that thread or at once.
    public func perform(_ job: ShardJob, _ answer: @escaping @Sendable (ShardAnswer) -> Void) {
        let isTaken: Bool
        switch job.place {
        case .writer(let shard, let lane):
            isTaken = writers[shard][lane].submit(deadline: job.deadline) { answer(Self.done(job, $0)) }
        case .reader(let shard):
            isTaken = readers[shard].submit(deadline: job.deadline) { answer(Self.done(job, $0)) }
        case .map:
            isTaken =
                maps?.submit(deadline: job.deadline) { worker in
                    answer(ShardAnswer(id: job.id, result: Self.loaded(worker)))
                } ?? false
        }
        if isTaken { return }
        let failure = Failure(.overloaded, "\(config.waitingJobs) calls wait for this shard; slow down and retry")
        answer(ShardAnswer(id: job.id, result: .failed(failure)))
    }

    private static func done(_ job: ShardJob, _ store: MySQLRecentStore?) -> ShardAnswer {
        guard let store else {
            let failure = Failure(.deadlineExceeded, "the shard was busy until the deadline")
            return ShardAnswer(id: job.id, result: .failed(failure))
        }
        return ShardAnswer(id: job.id, result: store.perform(job.work))
    }

    private static func loaded(_ worker: MapWorker?) -> ShardAnswer.Result {
        guard let worker else { return .failed(Failure(.deadlineExceeded, "the map was not read in time")) }
        do throws(MySQLError) { return .map(try worker.load()) } catch { return .failed(error.failure) }
    }

    /// Ends the threads after what they have taken.
    public func stop() {
        for pool in writers.flatMap({ $0 }) + readers { pool.stop() }
        maps?.stop()
    }
}

/// Reads the map, and settles it first. Isolation: one thread's.
private final class MapWorker {
    private let store: MapStore
    private let shards: [MySQLRecentStore]
    private let buckets: Int
    private var isSettled = false

    init(_ relational: MySQLConfig, _ config: MySQLConfig, _ buckets: Int) {
        store = MapStore(relational.addresses[0], relational)
        shards = config.addresses.map { MySQLRecentStore($0, config) }
        self.buckets = buckets
    }

    func load() throws(MySQLError) -> ShardMap {
        if isSettled, let map = try store.load() {
            // Somebody added a shard and moved a bucket there before this process was told of it.
            try MapStore.check(map, shards: shards.count)
            return map
        }
        let map = try store.settle(buckets: buckets, shards: shards)
        isSettled = true
        // The connections to the shards were for this only.
        for shard in shards { shard.session.disconnect() }
        return map
    }
}

extension MySQLRecentStore {
    func perform(_ work: ShardJob.Work) -> ShardAnswer.Result {
        switch work {
        case .claim(let claims): return .claimed(claim(claims))
        case .commit(let buckets): return .committed(commit(buckets))
        case .lookup(let request): return .found(lookup(request))
        case .rows(let queries, let buckets): return .pages(rows(queries, buckets: buckets))
        case .heads(let queries, let buckets, let marks):
            return .heads(heads(queries, buckets: buckets, since: HeadMarks(marks)))
        case .purge(let limit, let nowMS):
            do throws(Failure) { return .stepped(goOn: try purgeDedup(limit: limit, nowMS: nowMS)) } catch {
                return .failed(error)
            }
        case .extend(let nowMS):
            do throws(MySQLError) {
                try session.reading { (connection) throws(MySQLError) in
                    try Partitions.extend(connection, nowMS: nowMS)
                }
                return .stepped(goOn: false)
            } catch { return .failed(error.failure) }
        case .loadMap: return .failed(Failure(.noSuchMethod, "a shard has no map"))
        }
    }
}

/// The machine over its shards, on a lane.
public enum MySQLHost {
    /// Hosts the machine and starts it.
    @discardableResult
    public static func start(
        _ shards: MySQLShards, instance: String, lane: Lane, directory: Directory, logger: Logger,
        clock: @escaping @Sendable () -> Instant = SystemClock.now
    ) -> RoleHost<MySQLRecentMachine> {
        let way = WayBack()
        let host = RoleHost(
            shards.machine(), instance: instance, lane: lane, directory: directory, logger: logger, clock: clock,
            output: { job in
                shards.perform(job) { answer in
                    guard let host = way.host.withLock({ $0.value }) else { return }
                    lane.run { host.input(answer) }
                }
            })
        way.host.withLock { $0.value = host }
        host.start()
        return host
    }

    /// The host, which its own output has to know.
    private final class WayBack: Sendable {
        struct Weak: Sendable { weak var value: RoleHost<MySQLRecentMachine>? }
        let host = Mutex(Weak())
    }
}
