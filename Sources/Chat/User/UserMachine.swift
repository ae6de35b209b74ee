import Identity
import Machinery
import RPC
import Wire

/// What one item of a service's call became.
enum Part: Sendable {
    case fact(UserFact)
    case app(App)
    case page(IndexPage)
    /// Code 0: it worked.
    case done(Failure)
    /// The store did not answer; the whole call is refused.
    case failed(Failure)
}

/// User: profiles, apps and the user index over the relational port. What comes between two flushes goes out as one
/// call per kind.
///
/// Isolation: the lane of its host.
public struct UserMachine: RoleMachine {
    public static var role: RoleName { .user }
    public typealias Action = RoleAction<Never>
    typealias Slot = PartedCalls<Part>.Slot
    typealias ServiceSlot = PartedCalls<ServiceReply>.Slot

    /// Who wants a user's row.
    enum LoadWish: Sendable {
        case check(Slot)
        case profile(ServiceSlot, last: Bool)
        /// Creates the user, or leaves the profile that there is alone.
        case keepProfile(Slot, UserPut)
        /// The other side of a pair that has no entry yet.
        case peer(job: UInt64, index: Int)
    }

    enum PutWish: Sendable {
        case call(Slot)
        case service(ServiceSlot)
    }

    /// Who wants index rows.
    enum IndexWish: Sendable {
        case call(Slot)
        case sync(UInt64)
        case peer(UInt64, entry: Int)
        /// A set_state of somebody who may not be a member.
        case state(job: UInt64, index: Int)
    }

    /// What an answer is for.
    enum Flight: Sendable {
        case loading([(wish: LoadWish, user: UserKey)])
        case putting([(wish: PutWish, put: UserPut)])
        case appsGetting([(slot: Slot, app: String)])
        case appsPutting([(slot: Slot, app: App)])
        case indexLoading([(wish: IndexWish, query: IndexQuery)])
        case saving([(key: EntryKey, change: EntryChange)])
        case heads([(sync: UInt64, count: Int)])
        case seeking([(job: UInt64, index: Int, query: RowsQuery)])
    }

    let instance: String
    let config: UserConfig
    var calls = PartedCalls<Part>()
    var services = PartedCalls<ServiceReply>()
    private var flights: [UInt64: Flight] = [:]
    private var nextToken: UInt64 = 1

    var loads: [(wish: LoadWish, user: UserKey)] = []
    var puts: [(wish: PutWish, put: UserPut)] = []
    var appsGets: [(slot: Slot, app: String)] = []
    var appsPuts: [(slot: Slot, app: App)] = []
    /// Those that are written only over the version that they were made from.
    var appsCompares: [(slot: Slot, app: App)] = []
    var indexLoads: [(wish: IndexWish, query: IndexQuery)] = []
    var heads: [(request: ReadHeads, syncs: [(sync: UInt64, count: Int)])] = []
    /// Seqs of set_state calls that are not known to exist.
    var seeks: [(job: UInt64, index: Int, query: RowsQuery)] = []
    /// Seqs that conversations are known to have: their heads, or less.
    var reached: BoundedCache<ConversationRef, UInt64>
    var writer: StateWriter
    var events: [PushEvent] = []

    var profiles: [ServiceSlot: ProfilesResponse] = [:]
    var stateJobs: [UInt64: StateJob] = [:]
    /// Changes of set_state calls not answered yet.
    var stateChanges = 0
    var syncJobs: [UInt64: SyncJob] = [:]
    private var nextJob: UInt64 = 1
    private var tickArmed = false
    private static let announceTimer: UInt64 = 1
    private static let writeTimer: UInt64 = 2

    /// - Parameter instance: this User's name; it announces itself as "user/<name>".
    public init(instance: String, config: UserConfig = UserConfig()) {
        self.instance = instance
        self.config = config
        self.reached = BoundedCache(limit: config.knownHeads)
        self.writer = StateWriter(coalesceMS: config.coalesceMS, knownEntries: config.knownEntries)
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [Action] {
        switch event {
        case .start, .timer(Self.announceTimer): return announce()
        case .call(let id, let payload, _): return take(id, payload, now)
        case .reply(let token, let result):
            guard let flight = flights.removeValue(forKey: token) else { return [] }
            return landed(flight, result, now)
        case .timer:
            tickArmed = false
            writer.tick(now: now.micros)
            return []
        case .flush: return send(now)
        }
    }

    private mutating func take(_ id: CallID, _ payload: Payload, _ now: Instant) -> [Action] {
        switch payload {
        case .serviceCalls(let request): return serve(id, request.calls, now)
        case .userCheck(let request): return check(id, request.users)
        case .usersPut(let request): return putUsers(id, request.users)
        case .appsGet(let request): return getApps(id, request.appIds)
        case .appsPut(let request): return putApps(id, request)
        case .indexTouch(let request): return touch(id, request.entries, now)
        case .indexLoad(let request): return loadIndex(id, request.queries)
        default: return [.refuse(id, Failure(.malformedRequest, "user does not answer payload \(payload.kind)"))]
        }
    }

    private mutating func landed(_ flight: Flight, _ result: CallResult, _ now: Instant) -> [Action] {
        switch flight {
        case .loading(let items): loaded(items, result, now)
        case .putting(let items): put(items, result)
        case .appsGetting(let items): appsGot(items, result)
        case .appsPutting(let items): appsWritten(items, result)
        case .indexLoading(let items): indexLoaded(items, result)
        case .saving(let items): saved(items, result, now)
        case .heads(let items): headsCame(items, result)
        case .seeking(let items): sought(items, result, now)
        }
    }

    // MARK: calls of a flush

    private mutating func send(_ now: Instant) -> [Action] {
        var actions: [Action] = []
        let writes = writer.take(now: now.micros)
        if !writes.isEmpty {
            var save = IndexSave()
            save.changes = writes.map(\.change.change)
            actions.append(ask(.indexSave(save), .saving(writes)))
        }
        if !puts.isEmpty {
            var request = UsersPut()
            request.users = puts.map(\.put)
            actions.append(ask(.usersPut(request), .putting(puts)))
            puts = []
        }
        if !appsPuts.isEmpty { actions.append(put(appsPuts, compare: false)) }
        if !appsCompares.isEmpty { actions.append(put(appsCompares, compare: true)) }
        appsPuts = []
        appsCompares = []
        actions += sendReads()
        for part in PushEvents.parts(events) { actions.append(.tell(.any(.pushProxy), .pushEvents(part))) }
        events = []
        if writer.needsTick, !tickArmed {
            tickArmed = true
            actions.append(.timer(Self.writeTimer, afterMS: config.writeTickMS))
        }
        return actions
    }

    private mutating func put(_ items: [(slot: Slot, app: App)], compare: Bool) -> Action {
        var request = AppsPut()
        request.apps = items.map(\.app)
        request.compare = compare
        return ask(.appsPut(request), .appsPutting(items))
    }

    private mutating func sendReads() -> [Action] {
        var actions: [Action] = []
        if !loads.isEmpty {
            var request = UserLoad()
            request.users = loads.map(\.user)
            actions.append(ask(.userLoad(request), .loading(loads)))
            loads = []
        }
        if !appsGets.isEmpty {
            var request = AppsGet()
            request.appIds = appsGets.map(\.app)
            actions.append(ask(.appsGet(request), .appsGetting(appsGets)))
            appsGets = []
        }
        actions += loadIndexes()
        for batch in heads { actions.append(ask(.readHeads(batch.request), .heads(batch.syncs), at: .msgReader)) }
        heads = []
        if !seeks.isEmpty {
            var request = ReadRows()
            request.queries = seeks.map(\.query)
            actions.append(ask(.readRows(request), .seeking(seeks), at: .msgReader))
            seeks = []
        }
        return actions
    }

    private mutating func loadIndexes() -> [Action] {
        var actions: [Action] = []
        var start = 0
        var rows = 0
        for index in indexLoads.indices {
            let more = Int(max(1, indexLoads[index].query.limit))
            if index > start, rows + more > config.mergedRows {
                actions.append(loadIndex(indexLoads[start..<index]))
                start = index
                rows = 0
            }
            rows += more
        }
        if start < indexLoads.count { actions.append(loadIndex(indexLoads[start...])) }
        indexLoads = []
        return actions
    }

    private mutating func loadIndex(_ items: ArraySlice<(wish: IndexWish, query: IndexQuery)>) -> Action {
        var request = IndexLoad()
        request.queries = items.map(\.query)
        return ask(.indexLoad(request), .indexLoading(Array(items)))
    }

    private mutating func ask(_ payload: Payload, _ flight: Flight, at role: RoleName = .userStore) -> Action {
        let token = nextToken
        nextToken += 1
        flights[token] = flight
        return .call(token, .any(role), payload, timeoutMS: config.storeTimeoutMS)
    }

    private func announce() -> [Action] {
        var announce = ServiceAnnounce()
        announce.svids = [WellKnownService.user]
        announce.instanceID = "user/\(instance)"
        return [
            .tell(.all(.route), .serviceAnnounce(announce)),
            .timer(Self.announceTimer, afterMS: config.announceMS),
        ]
    }

    mutating func newJob() -> UInt64 {
        defer { nextJob += 1 }
        return nextJob
    }
}
