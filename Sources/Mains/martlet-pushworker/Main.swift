import ArgumentParser
import MartletSuite

@main
struct MartletPushWorker: ServiceExecutable {
    static let role = "pushworker"
    static let abstract = "Delivers to Login until acknowledged."
    @OptionGroup var options: ServiceOptions
}
