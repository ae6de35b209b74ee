import Foundation
import RPC
import Wire

/// One life of a member of a group: a consumer of its own.
public struct MemberID: Hashable, Sendable {
    public let group: String
    public let member: String
    /// Tells a member from the one of the same name that left before.
    public let life: UInt64
}

/// A record on its way to the broker.
public struct KafkaRecord: Sendable, Equatable {
    /// The machine's number for it; comes back in the report.
    let slot: UInt64
    let partition: UInt32
    let bytes: Data
}

/// What became of a record.
public struct KafkaReport: Sendable, Equatable {
    enum Fate: Sendable, Equatable {
        case stored(offset: UInt64)
        /// Certainly not in the log.
        case refused(Failure)
        case unknown(Failure)
    }
    let slot: UInt64
    let fate: Fate
}

/// Records of one partition, in order, as a consumer got them.
public struct KafkaRun: Sendable, Equatable {
    let partition: UInt32
    /// The version of the place that they were read from: what was under way when the reader moved is told by it.
    let version: UInt64
    var entries: [LogEntry]
    /// The partition's end as the broker named it last; 0 when it did not.
    var end: UInt64
}

/// Where a consumer is to read.
public struct KafkaPlace: Sendable, Equatable {
    let partition: UInt32
    let offset: UInt64
    let version: UInt64
}

/// What the brokers say of a partition.
public struct PartitionFacts: Sendable, Equatable {
    let partition: UInt32
    let start: UInt64
    let end: UInt64
    let committed: UInt64?
}

/// What the machine learns from librdkafka.
public enum KafkaEvent: Sendable, Equatable {
    case reports([KafkaReport])
    /// The producer of that life can do nothing any more.
    case producerFailed(life: UInt64, String)
    /// The group gives the member partitions; it waits for `.assign`.
    case assigned(MemberID, [UInt32])
    /// The group takes partitions away; it waits for `.unassign`.
    case revoked(MemberID, [UInt32])
    case records(MemberID, [KafkaRun])
    /// The broker does not have the offset that the consumer wants.
    case outOfRange(MemberID, UInt32)
    /// The answer to `.ask`.
    case facts(MemberID, ticket: UInt64, Result<[PartitionFacts], Failure>)
    /// The answer to `.askProgress`.
    case progress(ticket: UInt64, Result<[LogPosition], Failure>)
    /// The answer to `.commit`: nil when all is committed.
    case committed(token: UInt64, Failure?)
    case memberFailed(MemberID, String)
    case closed(MemberID)
    /// The answer to `.verify`.
    case verified(Result<UInt64, Failure>)
}

/// What the machine wants of librdkafka.
public enum KafkaCommand: Sendable, Equatable {
    case produce([KafkaRecord])
    /// A new producer in place of one that failed.
    case renewProducer(life: UInt64)
    case join(MemberID)
    case assign(MemberID, [KafkaPlace])
    case unassign(MemberID, [UInt32])
    case move(MemberID, KafkaPlace)
    case pause(MemberID, [UInt32])
    case resume(MemberID, [UInt32])
    /// Start, end and committed position of partitions, as they are now.
    case ask(MemberID, ticket: UInt64, [UInt32])
    /// A group's committed positions, asked by somebody who need not be in it.
    case askProgress(ticket: UInt64, group: String)
    case commit(MemberID, token: UInt64, [LogPosition])
    case close(MemberID)
    /// Is it still the same log? `ends` are those that were seen.
    case verify(ends: [UInt64])
    /// Remember how far the log went, so that one that came back shorter is found out.
    case note(ends: [UInt64])
}
