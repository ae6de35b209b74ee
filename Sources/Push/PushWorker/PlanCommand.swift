import RPC
import Wire

/// WorkerPlan: taking it in and answering it.
extension PushWorkerMachine {
    mutating func accept(_ id: CallID, _ body: WorkerPlan, _ deadline: UInt64, _ now: Instant) -> [RoleAction<Never>] {
        let count = body.batches.reduce(0) { $0 + $1.deliveries.count }
        let size = body.batches.reduce(0) { $0 + $1.deliveries.reduce(0) { $0 + $1.message.message.count } }
        guard deliveries + count <= config.maxDeliveries, bytes + size <= config.maxBytes else {
            return [.refuse(id, Failure(.overloaded, "PushWorker holds \(deliveries) deliveries, \(bytes) bytes"))]
        }
        var answer = WorkerDone()
        answer.batches = body.batches.map { batch in
            var response = DeliverResponse()
            response.results = batch.deliveries.map { delivery in
                var result = DeliveryResult()
                result.targets = Array(repeating: .notHere, count: delivery.targets.count)
                result.senders = Array(repeating: .notHere, count: delivery.senders.count)
                return result
            }
            return response
        }
        guard count > 0 else { return [.reply(id, .workerDone(answer))] }
        deliveries += count
        bytes += size
        let number = nextPlan
        nextPlan += 1
        let early = config.answerEarlyMS * 1000
        plans[number] = Plan(
            call: id, answer: answer, open: body.batches.map { Array(repeating: 1, count: $0.deliveries.count) },
            unsettled: count, deliveries: count, bytes: size, answerBy: deadline > early ? deadline - early : 0)
        var actions: [RoleAction<Never>] = []
        for (batch, work) in body.batches.enumerated() {
            let lane = LaneKey(partition: work.partition, login: work.loginID)
            touched.append(lane)
            lanes.add(lane, LaneQueue())
            for (index, delivery) in work.deliveries.enumerated() {
                if !delivery.traceID.isEmpty { actions.append(.trace(delivery.traceID, hop: "pushworker")) }
                lanes[lane]?.jobs.append(
                    Job(
                        plan: number, batch: batch, index: index, lane: lane, delivery: delivery,
                        places: Array(delivery.targets.indices)))
            }
        }
        return actions
    }

    /// One job of a delivery is over.
    mutating func settle(_ job: Job) -> [RoleAction<Never>] {
        let settled = plans.change(job.plan) { plan in
            plan.open[job.batch][job.index] -= 1
            guard plan.open[job.batch][job.index] == 0 else { return false }
            plan.unsettled -= 1
            return plan.unsettled == 0
        }
        return settled == true ? answer(job.plan) : []
    }

    /// Answers a plan. A delivery that is not settled by now has no hands in the answer: PushServer looks it up
    /// afresh.
    private mutating func answer(_ number: UInt64) -> [RoleAction<Never>] {
        guard var plan = plans.removeValue(forKey: number) else { return [] }
        deliveries -= plan.deliveries
        bytes -= plan.bytes
        if plans.isEmpty {
            // Nobody waits for anything: what is held or to be repeated would stay until the next plan.
            lanes = [:]
            touched = []
            alone = []
        }
        if plan.unsettled > 0 {
            for (batch, counts) in plan.open.enumerated() {
                for (index, count) in counts.enumerated() where count > 0 {
                    plan.answer.batches[batch].results[index] = DeliveryResult()
                }
            }
        }
        return [.reply(plan.call, .workerDone(plan.answer))]
    }

    /// Plans whose caller stops waiting soon, and requests whose answer is overdue (the host always answers; this
    /// is for whatever is lost all the same).
    mutating func endOverdue(_ now: Instant) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        for token in requests.filter({ $0.value.deadline <= now.micros }).keys.sorted() {
            guard let request = requests.removeValue(forKey: token) else { continue }
            let failure = Failure(.deadlineExceeded, "the delivery was lost")
            actions += delivered(request, .unknown(failure), now)
        }
        for number in plans.keys(where: { $0.answerBy <= now.micros }).sorted() { actions += answer(number) }
        return actions
    }
}
