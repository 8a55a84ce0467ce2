<#
.SYNOPSIS
Sends while an adapter is disabled and enabled, and says whether every frame is accounted for.

.DESCRIPTION
In each round sluice.exe sends a capture many times over while the adapter is disabled and enabled at random moments.
It waits for the adapter to come back and reports the outcome of each frame; the sums must agree. In every fifth round
it is killed instead, and no frame may be in flight afterwards.

.PARAMETER Adapter
Name of the network adapter, as Get-NetAdapter shows it.

.PARAMETER Capture
The pcap or pcapng file to send.

.PARAMETER Count
Rounds.

.PARAMETER Loop
How often the capture is sent in a round.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Adapter,
    [Parameter(Mandatory)] [string] $Capture,
    [ValidateRange(1, 100000)] [int] $Count = 100,
    [ValidateRange(1, 1000000)] [int] $Loop = 1000
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$client = Join-Path $PSScriptRoot 'sluice.exe'
foreach ($file in $client, $Capture) {
    if (-not (Test-Path -LiteralPath $file)) {
        throw "$file is missing."
    }
}
$index = (Get-NetAdapter -Name $Adapter).ifIndex

if (-not $PSCmdlet.ShouldProcess($Adapter, "Disable and enable in $Count rounds while sending $Capture")) {
    return
}

$output = [System.IO.Path]::GetTempFileName()
$arguments = @('send', $index, "`"$Capture`"", '--loop', $Loop, '--wait', '60', '--json')
$submitted = $sent = $refused = $failed = $killed = 0
try {
    for ($round = 1; $round -le $Count; $round++) {
        Write-Progress -Activity "Disable and enable $Adapter" -Status "$round of $Count" -PercentComplete (100 * $round / $Count)
        $sender = Start-Process -FilePath $client -ArgumentList $arguments -NoNewWindow -PassThru -RedirectStandardOutput $output
        # Without this PowerShell forgets how the process ended.
        $null = $sender.Handle
        for ($change = 0; $change -lt 3; $change++) {
            Start-Sleep -Milliseconds (Get-Random -Minimum 50 -Maximum 1500)
            Disable-NetAdapter -Name $Adapter -Confirm:$false
            Enable-NetAdapter -Name $Adapter -Confirm:$false
        }
        if ($round % 5 -eq 0 -and -not $sender.HasExited) {
            Stop-Process -Id $sender.Id
            $sender.WaitForExit()
            $killed++
            continue
        }
        if (-not $sender.WaitForExit(600000)) {
            throw "FAILED in round ${round}: sluice.exe hangs. Take a dump of the system before anything else."
        }
        # 6: some frames were not sent, which is what disabling an adapter does.
        if ($sender.ExitCode -notin 0, 6) {
            throw "FAILED in round ${round}: sluice.exe ended with $($sender.ExitCode). Its output is $output."
        }
        $totals = Get-Content -LiteralPath $output -Raw | ConvertFrom-Json
        if ($totals.frames_submitted -ne $totals.frames_sent + $totals.frames_paused + $totals.frames_failed) {
            throw "FAILED in round ${round}: the sums do not agree. The client's output is $output."
        }
        $submitted += $totals.frames_submitted
        $sent += $totals.frames_sent
        $refused += $totals.frames_paused
        $failed += $totals.frames_failed
    }
} finally {
    Enable-NetAdapter -Name $Adapter -Confirm:$false
}

$deadline = (Get-Date).AddSeconds(60)
do {
    Start-Sleep -Seconds 1
    $statistics = & $client stats $index --json | ConvertFrom-Json
    $open = $statistics.frames_in_flight + $statistics.frames_waiting
} while ($open -ne 0 -and (Get-Date) -lt $deadline)
if ($open -ne 0) {
    throw "FAILED: no client sends any more, and $open frames are still in flight."
}
Remove-Item -LiteralPath $output
Write-Output "PASSED: $Count rounds, $killed of them ended by killing the client; $submitted frames, $sent sent, $refused refused while paused, $failed failed."
