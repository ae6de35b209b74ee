internal import CRdKafka
import Foundation
import Logging
import Ports
import RPC
import Synchronization
import Wire

/// One log in Kafka: carries out what its machine wants and posts what librdkafka has to say.
///
/// Use: `open`, put `machine()` into a host whose output is `perform`, then `begin` with a closure that posts events to
/// the host's lane, then start the host.
///
/// Isolation: `perform` on the lane of the machine; the rest from any thread. Blocking work (questions to brokers,
/// joining, renewing) has a lane of its own.
public final class KafkaLog: Sendable {
    private struct State {
        var producer: KafkaProducer?
        var consumers: [MemberID: KafkaConsumer] = [:]
        /// Clients that only ask for a group's positions, by the group's name.
        var onlookers: [String: KafkaHandle] = [:]
        var deliver: @Sendable (KafkaEvent) -> Void = { _ in }
        var incarnation: UInt64
    }

    public let settings: KafkaSettings
    private let logger: Logger
    private let tell: KafkaTell
    private let state: Mutex<State>
    private let blocking: Lane

    /// Finds the brokers, checks the topic and learns which log it is. Blocks, at most about `openMS`.
    ///
    /// - Throws: one sentence that says what to do.
    public static func open(_ settings: KafkaSettings, logger: Logger) throws(StoreOpenError) -> KafkaLog {
        let incarnation = try KafkaOpener(settings: settings, logger: logger).open()
        return KafkaLog(settings, logger, incarnation)
    }

    private init(_ settings: KafkaSettings, _ logger: Logger, _ incarnation: UInt64) {
        self.settings = settings
        self.logger = logger
        tell = KafkaTell(logger)
        state = Mutex(State(incarnation: incarnation))
        blocking = Lane.thread(name: "kafka-\(settings.log)")
    }

    /// Random, given when the log was first used: another number means another log.
    public var incarnation: UInt64 { state.withLock { $0.incarnation } }

    /// Port role `log`, serving the log of the settings.
    public func machine() -> KafkaLogMachine {
        KafkaLogMachine(
            log: settings.log, partitions: settings.partitions, incarnation: incarnation, limits: settings.limits)
    }

    /// Every number of librdkafka's last statistics: client -> path -> value, for example
    /// `["msg-producer"]["brokers.127.0.0.1:9092/1.rtt.avg"]`, in librdkafka's units.
    public var statistics: [String: [String: Double]] { tell.snapshot }

    /// Starts the producer. Events come on threads of librdkafka's queues: post them to the machine's lane.
    public func begin(_ deliver: @escaping @Sendable (KafkaEvent) -> Void) throws(StoreOpenError) {
        let producer = try KafkaProducer(settings, life: 1, tell: tell, deliver: deliver)
        state.withLock {
            $0.deliver = deliver
            $0.producer = producer
        }
    }

    /// Carries a command out. Never blocks.
    public func perform(_ command: KafkaCommand) {
        switch command {
        case .produce(let records): produce(records)
        case .renewProducer(let life): blocking.run { [self] in renew(life) }
        case .join(let id): blocking.run { [self] in join(id) }
        case .close(let id): blocking.run { [self] in close(id) }
        case .assign(let id, let places): consumer(id)?.assign(places)
        case .unassign(let id, let partitions): consumer(id)?.unassign(partitions)
        case .move(let id, let place): consumer(id)?.move(place)
        case .pause(let id, let partitions): consumer(id)?.pause(partitions, true)
        case .resume(let id, let partitions): consumer(id)?.pause(partitions, false)
        case .commit(let id, let token, let positions):
            guard let consumer = consumer(id) else {
                return deliver(.committed(token: token, Failure(.forbidden, "the member has left")))
            }
            consumer.commit(token, positions)
        case .ask(let id, let ticket, let partitions):
            blocking.run { [self] in
                guard let consumer = consumer(id) else { return }
                deliver(.facts(id, ticket: ticket, consumer.facts(partitions)))
            }
        case .askProgress(let ticket, let group):
            blocking.run { [self] in deliver(.progress(ticket: ticket, progress(of: group))) }
        case .verify(let ends): blocking.run { [self] in verify(ends) }
        case .note(let ends): blocking.run { [self] in note(ends) }
        }
    }

    private func produce(_ records: [KafkaRecord]) {
        if let producer = state.withLock({ $0.producer }) { return producer.produce(records) }
        let failure = Failure(.storeUnavailable, "the Kafka producer is being renewed")
        deliver(.reports(records.map { KafkaReport(slot: $0.slot, fate: .refused(failure)) }))
    }

    private func deliver(_ event: KafkaEvent) { state.withLock { $0.deliver }(event) }
    private func consumer(_ id: MemberID) -> KafkaConsumer? { state.withLock { $0.consumers[id] } }

    // MARK: The blocking lane

    private func join(_ id: MemberID) {
        do throws(StoreOpenError) {
            let deliver = state.withLock { $0.deliver }
            let made = try KafkaConsumer(settings, id: id, tell: tell) { [weak self] event in
                if case .closed(let id) = event { self?.forget(id) }
                deliver(event)
            }
            state.withLock { $0.consumers[id] = made }
        } catch { deliver(.memberFailed(id, error.message)) }
    }

    private func close(_ id: MemberID) {
        guard let consumer = consumer(id) else { return deliver(.closed(id)) }
        consumer.close()
    }

    /// Drops the consumer where blocking is allowed: freeing it waits for librdkafka's threads.
    private func forget(_ id: MemberID) {
        let gone = state.withLock { $0.consumers.removeValue(forKey: id) }
        blocking.run { withExtendedLifetime(gone) {} }
    }

    /// A client of the group that never joins it: positions are the coordinator's to tell.
    private func progress(of group: String) -> Result<[LogPosition], Failure> {
        do throws(StoreOpenError) {
            let handle = try onlooker(of: group)
            let wanted = Array(0..<settings.partitions)
            return KafkaQuestions.committed(handle, settings.topic, wanted, Int32(settings.limits.askMS)).map { found in
                found.compactMap { offset in offset.value.map { LogMember.position(offset.partition, $0) } }
            }
        } catch { return .failure(Failure(.storeUnavailable, error.message)) }
    }

    private func onlooker(of group: String) throws(StoreOpenError) -> KafkaHandle {
        if let known = state.withLock({ $0.onlookers[group] }) { return known }
        let made = try KafkaQuestions.onlooker(settings, group: group)
        // Few groups are ever asked for; whoever asks for many pays with new clients. Freeing them blocks: not locked.
        let gone = state.withLock { state in
            let gone = state.onlookers.count < 8 ? [:] : state.onlookers
            if !gone.isEmpty { state.onlookers = [:] }
            state.onlookers[group] = made
            return gone
        }
        return withExtendedLifetime(gone) { made }
    }

    private func renew(_ life: UInt64) {
        let deliver = state.withLock { $0.deliver }
        state.withLock { state in
            defer { state.producer = nil }
            return state.producer
        }?.close(flushMS: 0)
        do throws(StoreOpenError) {
            let made = try KafkaProducer(settings, life: life, tell: tell, deliver: deliver)
            state.withLock { $0.producer = made }
        } catch { deliver(.producerFailed(life: life, error.message)) }
    }

    private func verify(_ ends: [UInt64]) {
        do throws(Failure) {
            let found = try identity().settle(seen: ends, fresh: UInt64.random(in: 1...UInt64.max))
            state.withLock { $0.incarnation = found }
            deliver(.verified(.success(found)))
        } catch { deliver(.verified(.failure(error))) }
    }

    private func note(_ ends: [UInt64]) {
        do throws(Failure) { try identity().note(incarnation, ends: ends) } catch {
            logger.info(
                "the log's ends were not noted", metadata: ["log": "\(settings.log)", "why": "\(error.message)"])
        }
    }

    private func identity() throws(Failure) -> IdentityTopic {
        do throws(StoreOpenError) {
            return IdentityTopic(settings: settings, writer: try KafkaOpener.writer(settings))
        } catch { throw Failure(.storeUnavailable, error.message) }
    }

    /// Leaves the groups, waits for the reports of what was appended, ends the threads. Blocks, at most about
    /// `flushMS`.
    public func stop() {
        let (producer, consumers) = state.withLock { state in
            defer { state.producer = nil }
            return (state.producer, state.consumers.values.map { $0 })
        }
        blocking.run { [self] in
            let gone = state.withLock { state in
                defer { state.onlookers = [:] }
                return state.onlookers
            }
            withExtendedLifetime(gone) {}
        }
        for consumer in consumers { consumer.close() }
        producer?.close(flushMS: settings.limits.flushMS)
        for consumer in consumers { consumer.waitClosed(milliseconds: settings.limits.flushMS) }
        blocking.stop()
    }
}
