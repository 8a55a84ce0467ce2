<#
.SYNOPSIS
Starts and stops a trace of the driver's events.

.PARAMETER Action
Start or Stop.

.PARAMETER File
Where Stop writes the trace.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidateSet('Start', 'Stop')]
    [string] $Action,
    [string] $File = (Join-Path (Get-Location) 'sluice.etl')
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$recorder = Join-Path $PSScriptRoot 'sluice.wprp'

switch ($Action) {
    'Start' {
        if (-not (Test-Path -LiteralPath $recorder)) {
            throw "$recorder is missing."
        }
        if ($PSCmdlet.ShouldProcess('Sluice.NdisFilter', 'Start a trace')) {
            & wpr.exe -start $recorder -filemode
            if ($LASTEXITCODE -ne 0) {
                throw "wpr ended with $LASTEXITCODE; is another trace running? See: wpr -status"
            }
        }
    }
    'Stop' {
        if ($PSCmdlet.ShouldProcess($File, 'Stop the trace')) {
            & wpr.exe -stop $File
            if ($LASTEXITCODE -ne 0) {
                throw "wpr ended with $LASTEXITCODE."
            }
            & tracerpt.exe $File -o ([System.IO.Path]::ChangeExtension($File, 'xml')) -of XML -y | Out-Null
            Write-Output "The trace is $File; its events as text are beside it."
        }
    }
}
