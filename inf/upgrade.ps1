<#
.SYNOPSIS
Replaces the installed filter by the package in this folder.

.DESCRIPTION
Interrupted: the stack of each adapter restarts twice, so connections drop, remote desktop and 802.1X among them; programs
that send through Sluice have to end before. Lost: the counters of `sluice stats`.

Kept: the adapters on which the binding is switched off, test signing, the trusted certificate, Driver Verifier's
settings. If the new package cannot be installed, the old one is installed again from the driver store.

.PARAMETER Inf
The INF of the new package; the one beside this script by default.

.PARAMETER Force
End sluice.exe if it runs.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Inf = (Join-Path $PSScriptRoot 'sluice.inf'),
    [switch] $Force
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

function Get-Staged {
    Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sluice.inf' }
}

if (-not (Test-Path -LiteralPath $Inf -PathType Leaf)) {
    throw "$Inf is missing: the package is not complete."
}
$Inf = (Resolve-Path -LiteralPath $Inf).ProviderPath
$folder = Split-Path -Parent $Inf
foreach ($name in 'sluice.sys', 'sluice.cat') {
    if (-not (Test-Path -LiteralPath (Join-Path $folder $name) -PathType Leaf)) {
        throw "$(Join-Path $folder $name) is missing: the package is not complete."
    }
}
if (-not (Get-Service -Name sluice -ErrorAction SilentlyContinue)) {
    throw 'There is no service sluice to upgrade. Run install.ps1.'
}
# Looked at before anything is removed: a package that is not trusted cannot replace one that works.
$signature = Get-AuthenticodeSignature -LiteralPath (Join-Path $folder 'sluice.cat')
if ($signature.Status -ne 'Valid') {
    throw "sluice.cat: $($signature.StatusMessage) Run prepare.ps1 with this package's certificate first."
}
if ((Get-Content -LiteralPath $Inf -Raw) -notmatch '(?m)^\s*DriverVer\s*=\s*[^,]+,\s*([\d.]+)') {
    throw "$Inf has no DriverVer."
}
$new = [version] $Matches[1]
$staged = @(Get-Staged)
$old = $staged | Sort-Object { [version] $_.Version } | Select-Object -Last 1
if ($old -and [version] $old.Version -gt $new) {
    Write-Warning "The installed package is version $($old.Version), newer than $new."
}
$off = @(Get-NetAdapterBinding -ComponentID Sluice_sluice -ErrorAction SilentlyContinue | Where-Object { -not $_.Enabled })

if (-not $PSCmdlet.ShouldProcess($Inf, "Replace the installed filter by version $new, restarting the stack of each adapter twice")) {
    return
}
try {
    & (Join-Path $PSScriptRoot 'uninstall.ps1') -Force:$Force -KeepCertificate -KeepPackages
} catch {
    $service = Get-Service -Name sluice -ErrorAction SilentlyContinue
    if ($service -and $service.Status -eq 'StopPending') {
        Write-Warning 'The old version is removed when its last handle is closed: then, or after a restart of Windows, run install.ps1.'
    }
    throw
}
try {
    & (Join-Path $PSScriptRoot 'install.ps1') -Inf $Inf
} catch {
    $reason = $_
    if ($old) {
        Write-Warning "The new package was not installed; the old one, $($old.Driver), is installed again."
        & netcfg.exe -v -l $old.OriginalFileName -c s -i Sluice_sluice
        if ($LASTEXITCODE -ne 0) {
            Write-Warning "netcfg ended with ${LASTEXITCODE}: neither package is installed."
        }
    }
    throw $reason
} finally {
    foreach ($binding in $off) {
        Disable-NetAdapterBinding -Name $binding.Name -ComponentID Sluice_sluice -ErrorAction Continue
    }
}
$component = Get-ChildItem 'HKLM:\SYSTEM\CurrentControlSet\Control\Network\{4D36E974-E325-11CE-BFC1-08002BE10318}' |
    Where-Object { $_.GetValue('ComponentId') -eq 'Sluice_sluice' }
if (-not $component) {
    throw 'netcfg reports success, but the network component is not there. Look at setupapi.dev.log.'
}
$used = Get-Staged | Where-Object { $_.Driver -eq $component.GetValue('InfPath') }
if (-not $used -or [version] $used.Version -ne $new) {
    throw "The network component is there, but not of version ${new}: its INF is $($component.GetValue('InfPath'))."
}
foreach ($package in $staged | Where-Object { $_.Driver -ne $component.GetValue('InfPath') }) {
    & pnputil.exe /delete-driver $package.Driver
    if ($LASTEXITCODE -ne 0) {
        Write-Warning "pnputil ended with $LASTEXITCODE; the old package $($package.Driver) stays in the driver store."
    }
}
Write-Output "Sluice $new is installed."
