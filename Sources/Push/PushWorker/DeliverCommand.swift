import RPC
import Wire

/// DeliverRequest: handing over, repeating, and following sessions that moved.
///
/// Requests of a lane follow each other without waiting, in order. One that was refused or broke off holds its lane
/// until its deliveries have been handed over again. One that only took too long holds nobody: some session of it
/// is slow, its deliveries are repeated one by one, so that each settles by itself.
extension PushWorkerMachine {
    mutating func flush(_ now: Instant) -> [RoleAction<Never>] {
        var actions = sendAlone(now)
        var logins: [String] = []
        var ready: [String: [Job]] = [:]
        for key in touched {
            guard let lane = lanes[key], lane.heldUntil <= now.micros else { continue }
            let live = lane.jobs.contains { plans[$0.plan] != nil }
            if lane.failures == 0 || !live {
                lanes[key] = nil
            } else {
                lanes[key]?.jobs = []
                lanes[key]?.heldUntil = 0
            }
            for job in lane.jobs where plans[job.plan] != nil {
                if job.delivery.targets.contains(where: { slow.contains($0.sessionID) }) {
                    actions += send([job], alone: true, now)
                    continue
                }
                if ready[key.login] == nil { logins.append(key.login) }
                ready[key.login, default: []].append(job)
            }
        }
        touched = lanes.keys { !$0.jobs.isEmpty }.sorted {
            ($0.partition, $0.login) < ($1.partition, $1.login)
        }
        for login in logins {
            var jobs = (ready[login] ?? [])[...]
            while !jobs.isEmpty {
                actions += send(Array(jobs.prefix(config.requestDeliveries)), alone: false, now)
                jobs = jobs.dropFirst(config.requestDeliveries)
            }
        }
        if let action = lookUpMoved() { actions.append(action) }
        if !plans.isEmpty, !ticking {
            ticking = true
            actions.append(.timer(Self.tick, afterMS: config.tickMS))
        }
        return actions
    }

    private mutating func send(_ jobs: [Job], alone: Bool, _ now: Instant) -> [RoleAction<Never>] {
        var body = DeliverRequest()
        body.loginID = jobs[0].lane.login
        body.deliveries = jobs.map(\.delivery)
        let token = takeToken()
        let grace: UInt64 = 200_000
        requests[token] = Request(
            jobs: jobs, alone: alone, deadline: now.micros + UInt64(config.deliverTimeoutMS) * 1000 + grace)
        requestsMade += 1
        if requestsMade == config.dropOnce { return [] }
        return [.call(token, .any(.route), .deliverRequest(body), timeoutMS: config.deliverTimeoutMS)]
    }

    private mutating func sendAlone(_ now: Instant) -> [RoleAction<Never>] {
        guard !alone.isEmpty else { return [] }
        var actions: [RoleAction<Never>] = []
        var later: [Job] = []
        for job in alone where plans[job.plan] != nil {
            if job.due <= now.micros {
                actions += send([job], alone: true, now)
            } else {
                later.append(job)
            }
        }
        alone = later
        return actions
    }

    mutating func delivered(_ request: Request, _ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        switch result {
        case .answered(.deliverResponse(let body)) where body.results.count == request.jobs.count:
            if !request.alone { for job in request.jobs { release(job.lane) } }
            return zip(request.jobs, body.results).flatMap { apply($0, $1, now) }
        case .unknown(let failure) where failure.isCode(.deadlineExceeded):
            for job in request.jobs {
                release(job.lane)
                repeatAlone(job, now)
            }
        case .answered, .refused, .unknown:
            if request.alone {
                for job in request.jobs { repeatAlone(job, now) }
            } else {
                hold(request.jobs, now)
            }
        }
        return []
    }

    private mutating func release(_ key: LaneKey) {
        guard let lane = lanes[key] else { return }
        lanes[key]?.failures = 0
        if lane.jobs.isEmpty { lanes[key] = nil }
    }

    /// Puts the jobs back to the front of their lanes, which then wait.
    private mutating func hold(_ jobs: [Job], _ now: Instant) {
        var back: [LaneKey: [Job]] = [:]
        var order: [LaneKey] = []
        for job in jobs where plans[job.plan] != nil {
            if back[job.lane] == nil { order.append(job.lane) }
            back[job.lane, default: []].append(job)
        }
        for key in order {
            var lane = lanes[key] ?? LaneQueue()
            // Requests of a lane end in the order of their tokens only mostly; the jobs' own order decides.
            lane.jobs = ((back[key] ?? []) + lane.jobs).sorted {
                ($0.plan, $0.batch, $0.index) < ($1.plan, $1.batch, $1.index)
            }
            if lane.heldUntil <= now.micros {
                lane.failures += 1
                lane.heldUntil = now.micros + delayMS(lane.failures) * 1000
            }
            lanes[key] = lane
            touched.append(key)
        }
    }

    private mutating func repeatAlone(_ job: Job, _ now: Instant) {
        guard plans[job.plan] != nil else { return }
        var again = job
        again.attempts += 1
        again.due = now.micros + delayMS(again.attempts) * 1000
        // Alone and still not answered: then it is this delivery's sessions that are slow.
        if again.attempts > 1 {
            if slow.count >= config.maxSlowSessions { slow = [] }
            slow.formUnion(job.delivery.targets.map(\.sessionID))
        }
        alone.append(again)
    }

    private mutating func apply(_ job: Job, _ result: DeliveryResult, _ now: Instant) -> [RoleAction<Never>] {
        guard plans[job.plan] != nil else { return [] }
        guard result.targets.count == job.delivery.targets.count, result.senders.count == job.delivery.senders.count
        else {
            repeatAlone(job, now)
            return []
        }
        if !slow.isEmpty { for target in job.delivery.targets { slow.remove(target.sessionID) } }
        var gone: [SessionRef] = []
        var places: [Int] = []
        for (index, hand) in result.targets.enumerated() {
            if hand == .notHere, !job.redirected {
                gone.append(job.delivery.targets[index])
                places.append(job.places[index])
            } else if hand != .notHere {
                plans[job.plan]?.answer.batches[job.batch].results[job.index].targets[job.places[index]] = hand
            }
        }
        if !job.redirected, !job.delivery.senders.isEmpty {
            plans[job.plan]?.answer.batches[job.batch].results[job.index].senders = result.senders
        }
        guard !gone.isEmpty else { return settle(job) }
        var left = job
        left.delivery.targets = gone
        left.delivery.senders = []
        left.places = places
        moved.append(left)
        return []
    }

    private mutating func lookUpMoved() -> RoleAction<Never>? {
        guard !moved.isEmpty else { return nil }
        var request = LookupRequest()
        for session in moved.lazy.flatMap(\.delivery.targets) {
            var user = UserKey()
            user.appID = session.appID
            user.userID = session.userID
            request.users.append(user)
        }
        let token = takeToken()
        lookups[token] = moved
        moved = []
        return .call(token, .any(.online), .lookupRequest(request), timeoutMS: config.lookupTimeoutMS)
    }

    /// The one fresh look-up: a registration newer than the one that is gone gets the message; without one the
    /// target is done. When Online cannot tell, the delivery stays unsettled and goes back to PushServer, where
    /// presence waits.
    mutating func found(_ jobs: [Job], _ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        let asked = jobs.reduce(0) { $0 + $1.delivery.targets.count }
        guard case .answered(.lookupResponse(let body)) = result, body.results.count == asked else { return [] }
        var from = 0
        var actions: [RoleAction<Never>] = []
        for job in jobs {
            let results = body.results[from..<from + job.delivery.targets.count]
            from += job.delivery.targets.count
            guard plans[job.plan] != nil, !results.contains(where: { $0.state == .presenceUnknown }) else { continue }
            for (index, result) in results.enumerated() {
                let epoch = job.delivery.targets[index].epoch
                for registration in result.registrations where registration.epoch > epoch {
                    redirect(job, job.places[index], registration)
                }
            }
            actions += settle(job)
        }
        return actions
    }

    private mutating func redirect(_ job: Job, _ place: Int, _ registration: Registration) {
        var next = job
        next.lane.login = registration.loginID
        var session = SessionRef()
        session.sessionID = registration.sessionID
        session.epoch = registration.epoch
        session.appID = registration.appID
        session.userID = registration.userID
        next.delivery.targets = [session]
        next.places = [place]
        next.redirected = true
        next.attempts = 0
        plans[job.plan]?.open[job.batch][job.index] += 1
        lanes.add(next.lane, LaneQueue())
        lanes[next.lane]?.jobs.append(next)
        touched.append(next.lane)
    }

    /// 300 ms, doubling, at most 5 s.
    func delayMS(_ attempts: Int) -> UInt64 {
        min(config.retryMostMS, config.retryFirstMS << UInt64(min(max(attempts - 1, 0), 16)))
    }
}
