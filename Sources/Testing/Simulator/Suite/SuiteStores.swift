import Ports

/// The stores of a simulated suite; the machines in front of them come and go.
public final class SuiteStores {
    public let trouble: StoreTrouble
    public let log: SimulatedLogStore
    public let pushLog: SimulatedLogStore
    public let recent: SimulatedRecentStore
    public let hot: SimulatedHotStore
    public let presence: SimulatedPresenceStore
    public let users: SimulatedUserStore

    /// - Parameter log: what log "msg" holds already; nil for an empty one.
    init(seed: UInt64, buckets: UInt32, log: SimulatedLogStore? = nil) {
        trouble = StoreTrouble(seed: seed)
        self.log = log ?? SimulatedLogStore(partitions: buckets, incarnation: 7, trouble: trouble)
        pushLog = SimulatedLogStore(partitions: buckets, incarnation: 70, trouble: trouble)
        recent = SimulatedRecentStore(trouble: trouble)
        hot = SimulatedHotStore(rows: 20)
        presence = SimulatedPresenceStore(trouble: trouble)
        users = SimulatedUserStore(trouble: trouble)
    }

    /// Instance names of the port machines.
    static let names = ["log", "pushlog", "recent", "hot", "presence", "relational"]

    /// Adds a port machine per store. After a crash a fresh machine stands in front of what its store kept.
    func add(to simulation: Simulation) {
        simulation.add("log") { [log] (crashed: LogMachine?) in
            if crashed != nil { log.crash() }
            return LogMachine(logs: ["msg": log])
        }
        simulation.add("pushlog") { [pushLog] (crashed: PushLogMachine?) in
            if crashed != nil { pushLog.crash() }
            return PushLogMachine(LogMachine(logs: ["push": pushLog]))
        }
        simulation.add("recent") { [recent] (_: RecentMachine<SimulatedRecentStore>?) in RecentMachine(recent) }
        simulation.add("hot") { [hot] (crashed: HotMachine<SimulatedHotStore>?) in
            if crashed != nil { hot.crash() }
            return HotMachine(hot)
        }
        simulation.add("presence") { [presence] (_: PresenceMachine<SimulatedPresenceStore>?) in
            PresenceMachine(presence)
        }
        simulation.add("relational") { [users] (_: UserStoreMachine<SimulatedUserStore>?) in UserStoreMachine(users) }
    }
}
