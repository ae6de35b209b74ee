import ArgumentParser
import MartletSuite

@main
struct MartletPushProxy: ServiceExecutable {
    static let role = "pushproxy"
    static let abstract = "Intake of what users are to be told."
    @OptionGroup var options: ServiceOptions
}
