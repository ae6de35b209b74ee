import Identity
import RPC
import Wire

/// A service as callers name it: below 1000 Martlet's own and the same for everybody, from 1000 up an app's.
struct ServiceKey: Hashable, Sendable {
    let svid: UInt32
    let app: String

    init(svid: UInt32, app: String) {
        self.svid = svid
        self.app = svid < WellKnownService.firstOfApps ? "" : app
    }
}

/// Who is registered under which service, and who answers. Iterates over arrays only: the same events, the same
/// choices.
struct ServiceTable: Sendable {
    struct Instance: Sendable {
        let id: String
        let address: Address
        var until: UInt64
    }

    private struct Service: Sendable {
        var instances: [Instance] = []
        var turn = 0
        /// Methods that do no harm when they are done twice, as the instance that announced last has it.
        var repeatable: [UInt32] = []
    }

    private struct Breaker: Sendable {
        var failures = 0
        var skippedUntil: UInt64 = 0
    }

    private var services: [ServiceKey: Service] = [:]
    private var breakers: [String: Breaker] = [:]
    private(set) var registrations = 0

    /// Adds or renews; false when the table is full.
    mutating func register(
        _ key: ServiceKey, _ id: String, _ address: Address, repeatable: [UInt32] = [], until: UInt64, limit: Int
    ) -> Bool {
        var service = services[key] ?? Service()
        service.repeatable = repeatable
        if let index = service.instances.firstIndex(where: { $0.id == id }) {
            service.instances[index].until = until
        } else {
            guard registrations < limit else { return false }
            registrations += 1
            service.instances.append(Instance(id: id, address: address, until: until))
            service.instances.sort { $0.id < $1.id }
        }
        services[key] = service
        return true
    }

    mutating func leave(_ key: ServiceKey, _ id: String) {
        drop(key) { $0.id == id }
    }

    /// Forgets leases that ran out, and the breakers of instances that serve nothing any more.
    mutating func expire(now: UInt64) {
        for key in Array(services.keys) { drop(key) { $0.until <= now } }
        guard !breakers.isEmpty else { return }
        let live = Set(services.values.flatMap { $0.instances.map(\.id) })
        breakers = breakers.filter { live.contains($0.key) }
    }

    func knows(_ key: ServiceKey, now: UInt64) -> Bool {
        services[key]?.instances.contains { $0.until > now } ?? false
    }

    func isRepeatable(_ key: ServiceKey, _ method: UInt32) -> Bool {
        services[key]?.repeatable.contains(method) ?? false
    }

    /// More than one instance: only then does it matter which one a call's neighbours went to.
    func isBalanced(_ key: ServiceKey) -> Bool { (services[key]?.instances.count ?? 0) > 1 }

    /// The next instance in turn that is leased, not skipped and not the excluded one.
    mutating func choose(_ key: ServiceKey, excluding: String?, now: UInt64) -> Instance? {
        guard let index = services.index(forKey: key) else { return nil }
        let count = services.values[index].instances.count
        for _ in 0..<count {
            let turn = services.values[index].turn % count
            services.values[index].turn = turn + 1
            let instance = services.values[index].instances[turn]
            if instance.until > now, instance.id != excluding, !isSkipped(instance.id, now: now) { return instance }
        }
        return nil
    }

    mutating func succeeded(_ id: String) {
        if breakers[id] != nil { breakers[id] = nil }
    }

    /// Counts a failure; true when the instance is skipped from now on.
    mutating func failed(_ id: String, now: UInt64, config: RouteConfig) -> Bool {
        var breaker = breakers[id] ?? Breaker()
        breaker.failures += 1
        let opens = breaker.failures >= config.breakerFailures
        if opens { breaker.skippedUntil = now + UInt64(config.breakerMS) * 1000 }
        breakers[id] = breaker
        return opens
    }

    private func isSkipped(_ id: String, now: UInt64) -> Bool {
        guard !breakers.isEmpty, let breaker = breakers[id] else { return false }
        return breaker.skippedUntil > now
    }

    private mutating func drop(_ key: ServiceKey, _ unwanted: (Instance) -> Bool) {
        guard var service = services[key] else { return }
        let before = service.instances.count
        service.instances.removeAll(where: unwanted)
        registrations -= before - service.instances.count
        services[key] = service.instances.isEmpty ? nil : service
    }
}
